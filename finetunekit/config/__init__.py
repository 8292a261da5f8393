"""Configuration: sections, YAML with the place of every value, presets, the plan, and their validation errors."""
