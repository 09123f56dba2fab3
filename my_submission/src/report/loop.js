// The stretch of a song that repeats. At its end, the player seeks with all lanes, so that they stay synchronised.

const SHORTEST = 0.25; // s; a shorter stretch is made longer
const DRAG = 6; // px; a pointer that moves less clicks, and seeks

class Loop {
  constructor(player) {
    this.player = player;
    this.range = null; // or [begin, end], s
    this.timer = 0;
    this.told = player.root.querySelector(".looping");
    this.region = player.root.querySelector(".region");
    const buttons = { begin: () => this.begin(), end: () => this.end(), clear: () => this.clear() };
    for (const [name, press] of Object.entries(buttons)) {
      player.root.querySelector(`.loop-${name}`).addEventListener("click", press);
    }
    for (const pictures of player.root.querySelectorAll(".pictures")) this.listen(pictures);
  }

  // Begin at the position; without an end after it, end with the song.
  begin() {
    this.player.read();
    const { position, seconds } = this.player;
    this.set(position, this.range && this.range[1] > position ? this.range[1] : seconds);
  }

  end() {
    this.player.read();
    const { position } = this.player;
    this.set(this.range && this.range[0] < position ? this.range[0] : 0, position);
  }

  clear() {
    this.range = null;
    this.draw();
    this.watch();
  }

  set(one, other) {
    const { seconds, latest } = this.player;
    const begin = Math.min(one, other, latest);
    const end = Math.min(seconds, Math.max(one, other, begin + SHORTEST));
    this.range = end > begin ? [begin, end] : null;
    this.draw();
    this.watch();
  }

  // Return whether playing from a position would leave the stretch at once.
  endsBefore(position) {
    return this.range !== null && position >= this.range[1] - 0.02;
  }

  // While it plays, seek to the beginning when the end is reached. A timer also runs while the page is hidden and draws nothing.
  watch() {
    clearTimeout(this.timer);
    const { player } = this;
    if (!this.range || !player.playing) return;
    player.read();
    const left = this.range[1] - player.position;
    if (left <= 0.005) player.seek(this.range[0]);
    else this.timer = setTimeout(() => this.watch(), 1000 * left);
  }

  // A drag across the pictures sets the loop; a click seeks.
  listen(pictures) {
    let from = null; // where the pointer went down, px
    let dragged = false;
    const at = (x) => {
      const box = pictures.getBoundingClientRect();
      return this.player.seconds * Math.min(1, Math.max(0, (x - box.left) / box.width));
    };
    pictures.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary) return;
      pictures.setPointerCapture(event.pointerId);
      from = event.clientX;
      dragged = false;
    });
    pictures.addEventListener("pointermove", (event) => {
      if (from === null || !event.isPrimary) return;
      dragged ||= Math.abs(event.clientX - from) >= DRAG;
      if (dragged) this.draw([at(from), at(event.clientX)].sort((one, other) => one - other));
    });
    pictures.addEventListener("pointerup", (event) => {
      if (from === null || !event.isPrimary) return;
      if (dragged) {
        this.set(at(from), at(event.clientX));
        this.player.seek(this.range ? this.range[0] : 0);
      } else this.player.seek(at(event.clientX));
      from = null;
    });
    pictures.addEventListener("pointercancel", () => { // such as a finger that scrolls the page
      from = null;
      this.draw();
    });
    pictures.addEventListener("dragstart", (event) => event.preventDefault());
  }

  draw(range = this.range) {
    this.region.hidden = !range;
    this.told.textContent = range ? range.map((seconds) => clock(seconds, 1)).join(" – ") : "none";
    if (!range) return;
    this.region.style.left = `${(100 * range[0]) / this.player.seconds}%`;
    this.region.style.width = `${(100 * (range[1] - range[0])) / this.player.seconds}%`;
  }
}
