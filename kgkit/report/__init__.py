"""Reports for people: numbers of a graph (figures.py), what looks wrong (checks.py), and the page that shows them."""
