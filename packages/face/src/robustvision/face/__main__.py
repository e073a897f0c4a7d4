"""``python -m robustvision.face`` is ``robustvision-face``, for torchrun."""

from robustvision.face.cli import main

main()
