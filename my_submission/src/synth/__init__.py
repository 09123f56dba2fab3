"""Synthetic songs: a composer, four stems of instruments and a mixing desk. `my_submission.src.synth.command` makes them.

    waves      oscillators, envelopes, noise                filters   filters and rooms, in the frequency domain
    score      tempo, key, chords, sections, parts          grooves   drum patterns and fills
    drums, bass, other, voice                               the four stems
    melody     the syllables that the voice sings           tones     the instruments of `other`
    effects    drive, chorus, echo, compression             mix       levels, limiter, 16 bits

Sounds are float64 at RATE: [n] mono, [2, n] stereo. Pitches are MIDI numbers (69 is A4), times are seconds. An instrument is
a function that draws a patch from a random generator and returns a function that plays notes.

The same seed must give the same 16-bit samples on every machine, although the last bit of exp, sin or an FFT differs
between CPUs. So no rounding error may grow: there is no feedback, everything is float64, and oscillators count their phase
in integers. Before the samples are rounded to 16 bits, machines differ by less than a millionth of a 16-bit step.
"""
