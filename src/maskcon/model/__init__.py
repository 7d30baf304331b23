"""Networks: backbones, heads, and the pair of query and key encoder."""
