"""Why two nodes do not talk: `flannelette doctor`."""
