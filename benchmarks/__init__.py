"""How fast Rolecall is, as ratios to what the same calls of AWS cost by themselves."""
