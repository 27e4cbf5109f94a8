"""The built-in demo world: drawn portraits whose factors are known, and networks trained on them."""
