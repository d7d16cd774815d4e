"""Evaluates a running kvec on long contexts: what each cache policy does to the answers."""
