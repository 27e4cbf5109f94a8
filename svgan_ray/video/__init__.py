"""Video in and out: exact reading, face tracks, FFHQ crops smoothed in time, H.264 writing, pictures."""
