"""The block map: block index to digest and write generation, a copy-on-write tree of nodes.

Its root digest is a snapshot's content.  Two maps that differ in k blocks share all but
the k paths that lead to them.
"""
