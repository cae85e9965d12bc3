"""Blocks that several systems share: attention, transformer layers, positions, vision encoders."""
