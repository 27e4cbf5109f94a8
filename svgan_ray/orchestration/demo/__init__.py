"""The whole experiment in one command: stages that resume, their memory, and a page that shows the result."""
