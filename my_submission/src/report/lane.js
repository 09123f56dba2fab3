"use strict";
// A lane of a player: its <audio> element, its buttons, its fader and the link that saves its file.

const PATIENCE = 2000; // ms; a seek that takes longer is not waited for
const probe = document.createElement("audio");
probe.volume = 0.5;
const FADES = probe.volume === 0.5; // false on iOS, where only the device's buttons set a volume

class Lane {
  constructor(element) {
    this.element = element;
    this.audio = element.querySelector("audio");
    this.name = element.getAttribute("aria-label");
    this.kind = element.dataset.kind;
    this.instrument = element.dataset.instrument;
    this.muteButton = element.querySelector(".mute");
    this.soloButton = element.querySelector(".solo");
    this.fader = element.querySelector(".fader");
    this.mute = this.muteButton.getAttribute("aria-pressed") === "true";
    this.solo = false;
    this.broken = false;
    this.loaded = null;
    this.fader.disabled = !FADES;
    this.fader.addEventListener("input", () => this.fade());
    this.fade();
    this.offer(element.querySelector(".download"));
  }

  // Take the volume from the fader.
  fade() {
    const share = this.fader.value / 100;
    this.audio.volume = share;
    const level = (20 * Math.log10(share)).toFixed(1).replace("-", "−");
    const told = !FADES ? "fixed" : share ? `${level} dB` : "silent";
    this.element.querySelector(".gain").textContent = told;
    this.fader.setAttribute("aria-valuetext", FADES ? `${this.fader.value} %, ${told}` : "set by the buttons of this device");
  }

  // In an embedded page, make the link save the audio that the page holds. Browsers refuse long data: URLs as downloads, so a
  // click turns it into a blob.
  offer(link) {
    if (link.getAttribute("href")) return;
    link.href = this.audio.src;
    link.addEventListener("click", () => {
      if (link.protocol !== "data:") return;
      const bytes = Uint8Array.from(atob(this.audio.src.split(",")[1]), (letter) => letter.charCodeAt(0));
      link.href = URL.createObjectURL(new Blob([bytes], { type: "audio/flac" }));
    });
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
