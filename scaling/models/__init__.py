"""The Mixer, ViT and BiT families by their papers' names.

`scaling.models.registry` knows names, shapes and published numbers and never imports torch; networks come from
`scaling.models.build.build_model`. This file imports nothing, so that planning stays light.
"""
