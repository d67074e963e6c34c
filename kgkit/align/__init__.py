"""Which item is which entity, as a table that people review before it is applied: `kgkit align`."""
