"use strict";
// The players of the songs. A page opened from disk may not read its own files, so samples cannot be mixed here. Instead, each
// lane is an <audio> element; all lanes play at once, and muting selects which are heard. The first lane that is heard is the
// clock; the others are kept synchronised with it.

const STEP = 200; // ms between two corrections of the lanes' positions
const TOO_FAR = 0.3; // s off the clock; a lane that is further off jumps, instead of playing a little faster or slower
const CLOSE = 0.004; // s off the clock; less is inaudible and is not corrected
const PATIENCE = 2000; // ms; a seek that takes longer is not waited for
const CALM = window.matchMedia("(prefers-reduced-motion: reduce)");
const players = [];

function clock(seconds, digits = 0) {
  const tenths = Math.floor(seconds * 10 ** digits + 1e-6);
  const whole = tenths / 10 ** digits;
  const rest = (whole % 60).toFixed(digits);
  return `${Math.floor(whole / 60)}:${rest.padStart(digits ? digits + 3 : 2, "0")}`;
}

class Lane {
  constructor(element) {
    this.element = element;
    this.audio = element.querySelector("audio");
    this.name = element.getAttribute("aria-label");
    this.instrument = element.dataset.instrument;
    this.muteButton = element.querySelector(".mute");
    this.soloButton = element.querySelector(".solo");
    this.mute = this.muteButton.getAttribute("aria-pressed") === "true";
    this.solo = false;
    this.broken = false;
    this.loaded = null;
  }

  // Resolve when the lane can play, or when its file turns out to be broken.
  load() {
    const { audio } = this;
    this.loaded ??= new Promise((done) => {
      audio.addEventListener("canplay", done, { once: true });
      audio.addEventListener("error", () => { this.broken = true; done(); }, { once: true });
      audio.preload = "auto";
      audio.load();
    });
    return this.loaded;
  }

  // Seek; resolve when the seek is done, or after PATIENCE.
  go(seconds) {
    this.audio.playbackRate = 1;
    if (this.broken || this.audio.currentTime === seconds) return Promise.resolve();
    return new Promise((done) => {
      this.audio.addEventListener("seeked", done, { once: true });
      setTimeout(done, PATIENCE);
      this.audio.currentTime = seconds;
    });
  }
}

class Player {
  constructor(root) {
    this.root = root;
    this.seconds = Number(root.dataset.seconds);
    this.latest = Math.max(0, this.seconds - Number(root.dataset.tail)); // playing may begin no later than this
    this.lanes = [...root.querySelectorAll(".lane")].map((element) => new Lane(element));
    this.button = root.querySelector(".play");
    this.slider = root.querySelector("input");
    this.now = root.querySelector(".now");
    this.head = root.querySelector(".head");
    this.hearing = root.querySelector(".hearing");
    this.position = Number(root.dataset.begin);
    this.playing = false;
    this.turn = 0; // counts starts and pauses: a start that waited for its files checks that no other followed

    this.button.addEventListener("click", () => this.toggle());
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    root.addEventListener("keydown", (event) => this.key(event));
    for (const lane of this.lanes) {
      lane.muteButton.addEventListener("click", () => this.mute(lane));
      lane.soloButton.addEventListener("click", (event) => this.solo(lane, event.ctrlKey || event.metaKey || event.shiftKey));
      lane.audio.addEventListener("ended", () => { if (lane === this.clock && this.playing) this.end(); });
    }
    for (const pictures of root.querySelectorAll(".pictures")) {
      pictures.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        pictures.setPointerCapture(event.pointerId);
        this.point(event, pictures);
      });
      pictures.addEventListener("pointermove", (event) => {
        if (pictures.hasPointerCapture(event.pointerId)) this.point(event, pictures);
      });
      pictures.addEventListener("dragstart", (event) => event.preventDefault());
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
    this.position = this.position >= this.seconds - 0.02 ? 0 : Math.min(this.position, this.latest);
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
    if (turn === this.turn) this.tick(turn, 0);
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

  point(event, pictures) {
    const box = pictures.getBoundingClientRect();
    this.seek(((event.clientX - box.left) / box.width) * this.seconds);
  }

  // Take the position from the clock, if it is moving.
  read() {
    const audio = this.clock && this.clock.audio;
    if (audio && !audio.paused && !audio.seeking) this.position = Math.min(this.seconds, audio.currentTime);
  }

  tick(turn, corrected) {
    if (turn !== this.turn) return;
    if (this.clock.audio.ended) return void this.end();
    if (this.clock.audio.paused) return void this.pause(); // paused by a media key or by the browser
    const now = performance.now();
    this.read();
    if (now - corrected >= STEP) {
      this.keepInStep();
      corrected = now;
    }
    this.draw();
    if (CALM.matches) setTimeout(() => this.tick(turn, corrected), 500);
    else requestAnimationFrame(() => this.tick(turn, corrected));
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
    const broken = this.lanes.filter((lane) => lane.broken).length;
    const names = heard.map((lane) => lane.name).join(" + ") || "nothing";
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
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code);
    if (event.key === " " && event.target.closest("button")) return; // the browser presses the button
    else if (event.key === " " || event.key.toLowerCase() === "k") this.toggle();
    else if (event.key.toLowerCase() === "t") this.swap();
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
