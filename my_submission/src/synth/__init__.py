"""How a procedural song comes about, for `my_submission.src.synth.command`: what is played, the instruments, the mix.

    waves      oscillators, envelopes, noise                filters   filters and rooms, in the frequency domain
    score      tempo, key, chords, sections, who plays      grooves   what a drummer plays
    drums, bass, other, voice                               the four stems; melody is what the voice sings
    effects    drive, chorus, echo, compression             mix       levels, limiter, 16 bits

Sounds are float64: [n] mono, [2, n] stereo, at RATE. Pitches are MIDI numbers (69 is A4), times seconds. An instrument is
a function that draws a patch from a generator and returns a function that plays a note on it.

The same seed must give the same 16-bit samples on every machine, although the last bit of exp, sin or an FFT differs
between CPUs. So nothing here feeds back or grows from rounding errors: everything is float64, oscillators count their
phase in integers, and what is left differs by less than a millionth of a 16-bit step before it is rounded.
"""
