(function () {
  'use strict';
  var NS = 'http://www.w3.org/2000/svg';
  // Places have four decimals of a percent; no box is narrower than forty of these.
  var SLACK = 0.0003, GLYPH = 6.62, MARGIN = 3;
  var graphs = [];

  function pattern(words) {
    try { return new RegExp(words, 'i'); } catch (flaw) {
      return new RegExp(words.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'i');
    }
  }

  function start(svg) {
    var alone = svg === document.documentElement;
    var part = function (name) { return svg.querySelector('.' + name); };
    var said = part('said'), reset = part('reset'), search = part('search'), clear = part('clear'), head = part('head');
    var frames = [];
    var zoomed = null;
    svg.setAttribute('width', '100%');
    svg.querySelectorAll('svg.f').forEach(function (box) {
      var lines = box.querySelector('title').textContent.split('\n');
      var frame = {
        box: box, text: box.querySelector('text'), lines: lines, name: lines[0],
        x: parseFloat(box.getAttribute('x')), w: parseFloat(box.getAttribute('width')),
        level: +box.parentNode.getAttribute('data-level'), hit: false
      };
      frame.wide = frame.w;
      frames.push(frame);
      box.addEventListener('click', function () { zoom(frame); });
      box.addEventListener('mouseover', function () { said.textContent = lines.join('  |  '); });
      box.addEventListener('mouseout', function () { said.textContent = shown; });
    });
    var shown = '';

    // The midst goes: names begin with where a function is and end with what it is.
    function fit(name, room) {
      if (name.length <= room) { return name; }
      var head = room < 9 ? 0 : Math.floor(room / 3);
      return name.slice(0, head) + '\u2026' + name.slice(name.length - (room - head - 1));
    }

    // What fits of a name, or nothing; narrow boxes have no border.
    function label(frame) {
      frame.box.classList.toggle('n', frame.wide / 100 * svg.clientWidth < 3);
      var room = Math.floor((frame.wide / 100 * svg.clientWidth - 2 * MARGIN) / GLYPH);
      if (room < 3) {
        if (frame.text) { frame.text.textContent = ''; }
        return;
      }
      if (!frame.text) {
        frame.text = document.createElementNS(NS, 'text');
        frame.text.setAttribute('x', MARGIN);
        frame.text.setAttribute('y', svg.getAttribute('data-base'));
        frame.box.appendChild(frame.text);
      }
      frame.text.textContent = fit(frame.name, room);
    }

    function labels() {
      frames.forEach(function (frame) { if (frame.box.style.display !== 'none') { label(frame); } });
    }

    function zoom(to) {
      zoomed = to;
      frames.forEach(function (frame) {
        var x = frame.x, wide = frame.w, is_up = false;
        if (to) {
          var begins = frame.x - to.x, ends = frame.x + frame.w - to.x - to.w;
          if (frame.level < to.level && begins <= SLACK && ends >= -SLACK) {
            x = 0; wide = 100; is_up = true;
          } else if (frame.level >= to.level && begins >= -SLACK && ends <= SLACK) {
            x = begins * 100 / to.w; wide = frame.w * 100 / to.w;
          } else {
            wide = 0;
          }
        }
        frame.wide = wide;
        frame.box.style.display = wide > 0 ? '' : 'none';
        frame.box.classList.toggle('up', is_up);
        if (wide > 0) {
          frame.box.setAttribute('x', x + '%');
          frame.box.setAttribute('width', wide + '%');
          label(frame);
        }
      });
      reset.style.display = to && to.level > 0 ? '' : 'none';
    }

    // Marks what matches; its share counts no function twice that stands in another.
    function find(words) {
      var matches = words ? pattern(words) : null, hits = [];
      frames.forEach(function (frame) {
        frame.hit = !!matches && (matches.test(frame.name) || matches.test(frame.lines[1] || ''));
        frame.box.classList.toggle('hit', frame.hit);
        if (frame.hit) { hits.push(frame); }
      });
      hits.sort(function (a, b) { return a.x - b.x || b.w - a.w; });
      var sum = 0, end = -1;
      hits.forEach(function (frame) {
        if (frame.x >= end - SLACK) { sum += frame.w; end = frame.x + frame.w; }
      });
      clear.style.display = matches ? '' : 'none';
      shown = matches ? sum.toFixed(1) + '% in ' + hits.length + ' frames match ' + words : '';
      said.textContent = shown;
      return hits.length;
    }

    function ask() {
      var words = window.prompt('Search for (a regular expression, functions and modules):');
      if (words !== null) { (alone ? [graph] : graphs).forEach(function (one) { one.find(words); }); }
    }

    function follow(top) { head.setAttribute('transform', 'translate(0,' + top + ')'); }

    var graph = { find: find, zoom: zoom, ask: ask };
    graphs.push(graph);
    reset.addEventListener('click', function () { zoom(null); });
    search.addEventListener('click', ask);
    clear.addEventListener('click', function () { find(''); });
    search.style.display = '';
    window.addEventListener('resize', labels);
    labels();
    if (alone) {
      // A page of its own has the search of the browser for its text; here it is useless, names are cut.
      window.addEventListener('keydown', function (event) {
        if ((event.ctrlKey || event.metaKey) && event.key === 'f') { event.preventDefault(); ask(); }
        if (event.key === 'Escape') { find(''); zoom(null); }
      });
      window.addEventListener('scroll', function () { follow(window.scrollY); });
      if (svg.getAttribute('data-grows') === 'up') { window.scrollTo(0, svg.getBoundingClientRect().height); }
    } else {
      svg.parentNode.addEventListener('scroll', function () { follow(svg.parentNode.scrollTop); });
    }
  }

  document.querySelectorAll('svg.flame').forEach(start);
})();
