"""What one country says to another: words, seals, prints, the side that asks, the side that is asked.

`proto/papilar/api/peer/v1` is the contract. Nothing here knows a socket: `papilar/peer_server.py` and
`papilar/peer_client.py` do.
"""
