"Change one thing, and measure it. Studies import everything; nothing imports them but their commands."
