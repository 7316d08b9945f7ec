"""Charts as data, drawn by Plotly for the page and by matplotlib for papers."""
