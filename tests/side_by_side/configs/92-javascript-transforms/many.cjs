module.exports = { up: (output) => output.toUpperCase() };
