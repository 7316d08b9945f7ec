"""What is read out of stored runs: findings, confirmation, transfer, explanation, comparison."""
