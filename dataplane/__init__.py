"""Moves packets between the TUN and the wire; knows no store."""
