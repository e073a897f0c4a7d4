"""The 19 common image corruptions of ImageNet-C at five severities, for images, batches and videos.

``noise``, ``blur``, ``weather`` and ``digital`` hold one function a corruption. Each draws all that is random once, for
one image size, and returns the filter to apply: to one image, or to every frame of a video. ``fields`` and ``kernels``
hold what several share; ``apply`` checks what comes in, gives every image its own random numbers, and is what users
call.
"""
