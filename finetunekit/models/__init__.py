"""Networks: built, weighted, frozen, cut in two, and the linear probes on their features. Knows no photo folder."""
