"""The store's own tool."""
