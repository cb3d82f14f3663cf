"""The backend without a cost matrix: costs come in blocks; imported when it is first wanted."""
