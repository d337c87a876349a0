"""What the scripts share: arguments, records, collection, metrics, training, evaluation."""
