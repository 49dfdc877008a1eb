"""How far the cells of a results folder are, told from what lies there."""
