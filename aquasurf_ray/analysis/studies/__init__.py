"""Studies of stored runs: findings, confirmation, transfer, explanation, comparison."""
