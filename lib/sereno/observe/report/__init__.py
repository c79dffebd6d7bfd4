"""`sereno report`: one HTML file of all jobs that needs nothing beside itself.

`gather` and `schedules` ask the machine, `model` and `ahead` make values of the answers, `plots` draws them, `page`
fills the template, `writing` puts it in its place.
"""
