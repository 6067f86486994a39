"""Training that changes as it goes: group by group, and in more bits."""
