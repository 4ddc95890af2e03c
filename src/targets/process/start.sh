# Becomes the worker once its entry is written. Where the one who writes it dies first, the input ends, and so does this.
read -r _ && exec "$@" </dev/null
