"""The embedded default: drawn portraits with known truth, and networks made from them."""
