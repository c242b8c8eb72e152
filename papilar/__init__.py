"""What a country runs: people, law, network. The only package that knows a person."""
