"""Pages that people read: HTML written from strings, with pictures and charts inside the file."""
