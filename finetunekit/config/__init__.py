"""Configuration: sections, YAML with the place of every value, presets, the plan, and what is wrong with them."""
