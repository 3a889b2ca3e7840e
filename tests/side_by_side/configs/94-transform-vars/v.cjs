module.exports = (vars) => ({ ...vars, y: vars.x.toUpperCase() });
