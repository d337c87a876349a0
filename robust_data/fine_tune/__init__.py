"""Fine-tuning that treats chosen instances in a way of their own."""
