"""The recipes: ``tiny`` (the demo trains it), ``small`` (what ships), ``paper`` (the published settings).

They are pure-Python mmengine configs: names imported here are placeholders until the recipe is built, so reading one
loads no torch. What all domains share is merged in under them by ``robustvision.core.training``.
"""
