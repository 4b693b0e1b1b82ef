"""Equivariance audit: say of any torch module, layer by layer, how equivariant it is, and why not."""

from partial_equiv.audit.moves import Move, make_moves

__all__ = ["Move", "make_moves"]
