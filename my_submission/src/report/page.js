// The players of the songs. A page opened from disk may not read its own files, so samples cannot be mixed here. Instead, each
// lane is an <audio> element; all lanes play at once, and muting selects which are heard. The first lane that is heard is the
// clock; the others are kept synchronised with it.

const STEP = 200; // ms between two corrections of the lanes' positions
const TOO_FAR = 0.3; // s off the clock; a lane that is further off jumps, instead of playing a little faster or slower
const CLOSE = 0.004; // s off the clock; less is inaudible and is not corrected
const CALM = window.matchMedia("(prefers-reduced-motion: reduce)");
const players = [];
let current = null; // the player that was used last; it gets the keys that go to no element

function clock(seconds, digits = 0) {
  const tenths = Math.floor(seconds * 10 ** digits + 1e-6);
  const whole = tenths / 10 ** digits;
  const rest = (whole % 60).toFixed(digits);
  return `${Math.floor(whole / 60)}:${rest.padStart(digits ? digits + 3 : 2, "0")}`;
}

class Player {
  constructor(root) {
    this.root = root;
    this.seconds = Number(root.dataset.seconds);
    this.latest = Math.max(0, this.seconds - Number(root.dataset.tail)); // playing may begin no later than this
    this.lanes = [...root.querySelectorAll(".lane")].map((element) => new Lane(element));
    this.button = root.querySelector(".play");
    this.slider = root.querySelector(".seek input");
    this.mixButton = root.querySelector(".mix"); // null where there is no mixture
    this.now = root.querySelector(".now");
    this.head = root.querySelector(".head");
    this.hearing = root.querySelector(".hearing");
    this.position = Number(root.dataset.begin);
    this.playing = false;
    this.loop = new Loop(this);
    this.turn = 0; // counts starts and pauses: a start that waited for its files checks that no other followed

    this.button.addEventListener("click", () => this.toggle());
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    this.mixButton?.addEventListener("click", () => this.mix());
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("focusin", () => { current = this; });
    for (const lane of this.lanes) {
      lane.muteButton.addEventListener("click", () => this.mute(lane));
      lane.soloButton.addEventListener("click", (event) => this.solo(lane, event.ctrlKey || event.metaKey || event.shiftKey));
      lane.audio.addEventListener("ended", () => { if (lane === this.clock && this.playing) this.end(); });
    }
    this.listen();
    this.draw();
  }

  // The lanes that are heard: those on solo or, if there are none, those that are not muted.
  get heard() {
    const solo = this.lanes.filter((lane) => lane.solo);
    return (solo.length ? solo : this.lanes.filter((lane) => !lane.mute)).filter((lane) => !lane.broken);
  }

  get clock() {
    return this.heard[0] || this.lanes.find((lane) => !lane.broken);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    for (const other of players) if (other !== this) other.pause();
    current = this;
    if (this.loop.endsBefore(this.position)) [this.position] = this.loop.range;
    else this.position = this.position >= this.seconds - 0.02 ? 0 : Math.min(this.position, this.latest);
    this.playing = true;
    this.draw();
    this.start();
  }

  // Start all lanes together, once every lane has reached the position.
  async start() {
    const turn = ++this.turn;
    await Promise.all(this.lanes.map((lane) => lane.load()));
    if (turn !== this.turn) return;
    this.listen();
    if (!this.clock) {
      this.pause();
      return;
    }
    await Promise.all(this.lanes.map((lane) => lane.go(this.position)));
    if (turn !== this.turn) return;
    await Promise.allSettled(this.lanes.filter((lane) => !lane.broken).map((lane) => lane.audio.play()));
    if (turn !== this.turn) return;
    this.loop.watch();
    const timer = setInterval(() => (turn === this.turn ? this.keepInStep() : clearInterval(timer)), STEP); // hidden or not
    this.tick(turn);
  }

  pause() {
    if (!this.playing) return;
    this.read();
    this.turn++;
    this.playing = false;
    for (const lane of this.lanes) lane.audio.pause();
    this.draw();
  }

  end() {
    if (this.loop.range && this.playing) {
      this.seek(this.loop.range[0]);
      return;
    }
    this.pause();
    this.position = this.seconds;
    this.draw();
  }

  seek(seconds) {
    this.position = Math.min(this.seconds, Math.max(0, seconds));
    if (this.playing) {
      for (const { audio } of this.lanes) audio.pause();
      if (this.position >= this.seconds) this.end();
      else this.play();
    }
    this.draw();
  }

  // Take the position from the clock, if it is moving.
  read() {
    const audio = this.clock && this.clock.audio;
    if (audio && !audio.paused && !audio.seeking) this.position = Math.min(this.seconds, audio.currentTime);
  }

  tick(turn) {
    if (turn !== this.turn) return;
    if (this.clock.audio.ended) return void this.end();
    if (this.clock.audio.paused) return void this.pause(); // paused by a media key or by the browser
    this.read();
    this.draw();
    if (CALM.matches) setTimeout(() => this.tick(turn), 500);
    else requestAnimationFrame(() => this.tick(turn));
  }

  keepInStep() {
    const clock = this.clock.audio;
    clock.playbackRate = 1;
    if (clock.seeking) return;
    for (const { audio, broken } of this.lanes) {
      if (broken || audio === clock || audio.seeking || audio.ended) continue;
      const ahead = audio.currentTime - clock.currentTime;
      const most = audio.muted ? 0.1 : 0.02; // change of speed; in a lane that is heard, more would be audible
      if (Math.abs(ahead) > TOO_FAR && clock.currentTime < this.latest) audio.currentTime = clock.currentTime;
      else audio.playbackRate = Math.abs(ahead) < CLOSE ? 1 : 1 - Math.min(most, Math.max(-most, 2 * ahead));
    }
  }

  mute(lane) {
    lane.mute = !lane.mute;
    if (lane.mute) lane.solo = false;
    this.listen();
  }

  solo(lane, keepOthers = false) {
    const wanted = !lane.solo;
    if (!keepOthers) for (const other of this.lanes) other.solo = false;
    lane.solo = wanted;
    this.listen();
  }

  get mixing() {
    return this.lanes.every((lane) => !lane.solo && lane.mute === (lane.kind !== "estimate"));
  }

  // Mix all estimates; from there, return to the mixture.
  mix() {
    const wanted = this.mixing ? "mixture" : "estimate";
    for (const lane of this.lanes) {
      lane.solo = false;
      lane.mute = lane.kind !== wanted;
    }
    this.listen();
  }

  // Switch between estimate and reference; from any other lane, switch to the first estimate.
  swap() {
    const now = this.heard.length === 1 ? this.heard[0] : null;
    const other = now && now.instrument && this.lanes.find((lane) => lane !== now && lane.instrument === now.instrument);
    const next = other || (now && now.instrument ? now : this.lanes.find((lane) => lane.instrument));
    if (next && !next.solo) this.solo(next);
  }

  // Mute all lanes that are not to be heard, and show which are heard.
  listen() {
    if (this.playing) this.read();
    const heard = this.heard;
    for (const lane of this.lanes) {
      const sounds = heard.includes(lane);
      lane.audio.muted = !sounds;
      lane.element.classList.toggle("heard", sounds);
      lane.element.classList.toggle("broken", lane.broken);
      lane.muteButton.setAttribute("aria-pressed", lane.mute);
      lane.soloButton.setAttribute("aria-pressed", lane.solo);
    }
    this.mixButton?.setAttribute("aria-pressed", this.mixing);
    const broken = this.lanes.filter((lane) => lane.broken).length;
    const names = this.mixing && heard.length > 2 ? "all estimates" : heard.map((lane) => lane.name).join(" + ") || "nothing";
    const missing = broken ? `. ${broken} of ${this.lanes.length} files cannot be played: is the folder next to the page there?` : "";
    const told = `Hearing: ${names}${missing}`;
    if (this.hearing.textContent !== told) this.hearing.textContent = told;
    if (this.playing && this.clock) this.keepInStep();
  }

  draw() {
    const word = this.playing ? "Pause" : "Play";
    const label = this.button.querySelector("span");
    if (label.textContent !== word) label.textContent = word;
    this.root.classList.toggle("playing", this.playing);
    const now = clock(this.position, 1);
    if (this.now.textContent !== now) {
      this.now.textContent = now;
      this.slider.setAttribute("aria-valuetext", `${clock(this.position)} of ${clock(this.seconds)}`);
    }
    this.slider.value = this.position;
    const share = `${(100 * this.position) / this.seconds}%`;
    this.head.style.transform = `translateX(${share})`;
    this.slider.style.setProperty("--done", share);
  }

  key(event) {
    const bracket = !event.metaKey && (event.altKey || !event.ctrlKey) && { "[": "begin", "]": "end" }[event.key];
    if (!bracket && (event.altKey || event.ctrlKey || event.metaKey)) return; // many keyboards need AltGr for a bracket
    const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code);
    const letter = event.key.toLowerCase();
    const lane = this.lanes.find(({ element }) => element.contains(event.target));
    if (event.key === " " && event.target.closest("button")) return; // the browser presses the button
    if (event.key.startsWith("Arrow") && event.target.closest(".fader")) return; // the browser moves the fader
    if (bracket) this.loop[bracket]();
    else if (event.key === " " || letter === "k") this.toggle();
    else if (letter === "c") this.loop.clear();
    else if (letter === "x") this.mixButton?.click();
    else if (letter === "m" && lane) this.mute(lane);
    else if (letter === "s" && lane) this.solo(lane, event.shiftKey);
    else if (letter === "t") this.swap();
    else if (event.key === "ArrowLeft") this.seek(this.position - (event.shiftKey ? 1 : 5));
    else if (event.key === "ArrowRight") this.seek(this.position + (event.shiftKey ? 1 : 5));
    else if (digit && digit[1] === "0") {
      for (const lane of this.lanes) lane.solo = false;
      this.listen();
    } else if (digit && this.lanes[digit[1] - 1]) this.solo(this.lanes[digit[1] - 1], event.shiftKey);
    else return;
    event.preventDefault();
  }
}

for (const root of document.querySelectorAll(".player")) players.push(new Player(root));
if (players.length === 1) [current] = players;
document.addEventListener("keydown", (event) => {
  if (event.target === document.body && current && current.root.getClientRects().length) current.key(event);
});

// Unfold the song that a link leads to.
function unfold() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.scrollIntoView();
    target.querySelector("summary").focus({ preventScroll: true });
  }
}
window.addEventListener("hashchange", unfold);
unfold();

// Pause a song when it is folded away.
for (const details of document.querySelectorAll(".track")) {
  details.addEventListener("toggle", () => {
    if (!details.open) players.find((player) => details.contains(player.root)).pause();
  });
}
