import type { Metadata } from 'next';
import type { ReactNode } from 'react';

import './style.css';

export const metadata: Metadata = {
  title: 'Chat · AI Integration Blueprint',
  description: 'A Next.js page over the functions of the AI Integration Blueprint.',
};

export default function Layout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>{children}</body>
    </html>
  );
}
