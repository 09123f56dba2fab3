"""Behind `train.py`: the step (trainer), the loop (run), its states (resume) and log (progress), signals (interruption),
several processes (launch, distributed), validation; which stems are drawn from (kept), what was left out of them (masked)."""
