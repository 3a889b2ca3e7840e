module.exports = (output => ;
