module.exports = ({ vars, provider }) => `made for ${vars.x} by ${provider.id}`;
