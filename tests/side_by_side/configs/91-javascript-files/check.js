module.exports = (output, context) => output === 'good' && context.vars.q === 'Q';
