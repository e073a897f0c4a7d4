"""``python -m robustvision.rppg`` is ``robustvision-rppg``, for torchrun."""

from robustvision.rppg.cli import main

main()
