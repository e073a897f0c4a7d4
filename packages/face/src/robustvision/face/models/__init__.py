"""The model that ships: trained on rendered faces alone, so that the pipeline runs at once. See ``CARD.md``.

``python -m robustvision.face.models`` (or ``make models``) trains it again.
"""
