"""Policy search: better plans than the built-in ones, and how sure that is."""
