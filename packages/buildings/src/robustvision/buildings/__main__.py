"""``python -m robustvision.buildings`` is ``robustvision-buildings``, for torchrun."""

from robustvision.buildings.cli import main

main()
