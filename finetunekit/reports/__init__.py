"""From values to bytes: pages, figures, tables and texts."""
