#ifndef KVEC_TESTS_CUSIM_GRAPH_H_
#define KVEC_TESTS_CUSIM_GRAPH_H_

#include <functional>
#include <thread>
#include <vector>

namespace kvec::cusim {

// Something that a stream is given to do.
struct StreamWork {
  std::function<void()> run;
  // It and the work behind wait until this is true; null: no wait.
  std::function<bool()> is_ready;
};

// Work that was captured, in the order in which it was given; also what is made of it to be
// launched.
struct Graph {
  std::vector<StreamWork> works;
};

// Where a stream's work goes while it is being captured.
struct Capture {
  Graph graph;
  std::thread::id thread;  // that has begun it
  bool is_valid = true;    // false: something was asked for that cannot be captured
};

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_GRAPH_H_
