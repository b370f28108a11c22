"""What must be kept, and until when: custom times of objects, and legal holds."""
